"""The vocabulary of Tracestone and how it is stored: settings, errors, engines, stores, SQL."""
