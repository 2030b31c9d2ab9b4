"""Who answers which client: the members of a farm, and the views they agree on."""
