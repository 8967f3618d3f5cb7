"""`python -m documentation`: renew the reference pages."""

from documentation.pages import main

if __name__ == "__main__":
    main()
