"""How a step's processes are started: here, on this machine; clusters come as siblings of ``local``."""
