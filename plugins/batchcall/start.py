"""Start the MCP server from a client's form: a field that nobody filled in is a setting that is not set.

A form sets every variable, an empty field to nothing or to its placeholder. The server itself refuses both: an operator
who sets a variable to nothing has made a mistake.
"""

import os

for name, value in list(os.environ.items()):
    if name.startswith("BATCHCALL_") and (not value.strip() or value.startswith("${user_config.")):
        del os.environ[name]

if __name__ == "__main__":
    from batchcall_mcp.__main__ import main

    main()
