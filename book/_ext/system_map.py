"""The directive `system-map`: the figure that every chapter opens with."""

from docutils import nodes
from docutils.parsers.rst import Directive

from minimind.notebook import system_map


class SystemMap(Directive):
    """With an argument, the box of that name is lit."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self):
        return [nodes.raw("", system_map(*self.arguments).data, format="html")]


def setup(app):
    app.add_directive("system-map", SystemMap)
    return {"parallel_read_safe": True}
