# ruff: noqa: A005 - inside of tests it shadows nothing
