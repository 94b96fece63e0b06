"""The list of translated ATen operations."""

HANDLERS = {}


def aten(*targets):
    """Registers a method for ATen operations; the method takes their arguments by name."""
    def register(method):
        HANDLERS.update({f"aten.{target}": method for target in targets})
        return method
    return register
