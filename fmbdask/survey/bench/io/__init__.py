"""How fast this file system takes and gives ramps and vectors, by chunk, codec and shard."""
