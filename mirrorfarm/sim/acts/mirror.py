"""The acts that a simulated mirror knows; the files beside this one define them."""

from mirrorfarm.sim.acts.act import Vocabulary

MODULE = "app"
MIRROR = Vocabulary()
