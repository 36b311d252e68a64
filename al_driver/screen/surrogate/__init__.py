"""The networks themselves. Only here and in tasks is torch imported, and only tasks import this package."""
