"""Messages between machines: keys, addresses, and connections that lose nothing and repeat nothing."""
