"""A pass-through file system that speaks the kernel's FUSE protocol directly."""
