"""Where people and programs are told of alerts: one module a kind of channel, all of them behind one small protocol."""
