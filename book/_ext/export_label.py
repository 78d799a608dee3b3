"""Show on a page which module a code cell belongs to.

In a notebook the cell begins with `#| export text.tokenizer`; on the page that line
gives way to a label above the cell. The notebook that readers download keeps it.
"""

import json

from docutils import nodes

MARKER = "#| export "
CLASS = "tag_export-"  # MyST-NB gives a cell the class tag_X for its tag X


def line_to_tag(app, docname, source):
    """Turn the marker line of every exported cell into a cell tag."""
    if not docname.startswith("notebooks/"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        first, _, rest = "".join(cell["source"]).partition("\n")
        if cell["cell_type"] == "code" and first.startswith(MARKER):
            module = first.removeprefix(MARKER).strip()
            cell["source"] = rest
            cell["metadata"].setdefault("tags", []).append(f"export-{module}")
    source[0] = json.dumps(notebook)


def tag_to_label(app, doctree):
    """Put the module's file name on top of every cell with such a tag."""
    for cell in doctree.findall(nodes.container):
        for name in cell["classes"]:
            if name.startswith(CLASS):
                path = name.removeprefix(CLASS).replace(".", "/")
                label = nodes.literal("", f"minimind/{path}.py")
                cell.insert(0, nodes.paragraph("", "", label, classes=["export-label"]))


def setup(app):
    app.connect("source-read", line_to_tag)
    app.connect("doctree-read", tag_to_label)
    return {"parallel_read_safe": True}
