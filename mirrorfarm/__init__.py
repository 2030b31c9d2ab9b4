"""Keep an application running on two servers, or on many."""
