"""One search of one exposure, each in a fresh process: scripts that take a JSON file and leave others."""
