"""Leave out the scripts that no page uses and that ask another server."""


def drop_thebe(app, pagename, templatename, context, doctree):
    """sphinx-thebe adds its scripts to every page, even with no button for it."""
    scripts = context.get("script_files", [])
    kept = [s for s in scripts if "thebe" not in f"{s} {s.attributes}".casefold()]
    context["script_files"] = kept


def setup(app):
    # After sphinx-thebe, which listens at the default priority.
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True}
