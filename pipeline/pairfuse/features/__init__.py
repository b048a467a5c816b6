"""Features room: what encoders gave, kept in a store that can be trusted."""
