"""Tables, sessions and migrations shared by the components of the coordinator."""
