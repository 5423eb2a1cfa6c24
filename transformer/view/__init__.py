"""One training step in one page: forward, backward and the optimiser's update of a text, in a single HTML file.

`collect` runs the step on the engine and watches it, `twin` opens fused ops, `nodes` makes the tree that the page folds,
`frames` looks at earlier checkpoints, `pack` rounds arrays into few bytes, `page` puts all into web/index.html.
"""
