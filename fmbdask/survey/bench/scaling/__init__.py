"""How surveys scale: the same work on more and more workers, through plan, coordinator and journals."""
