"""AetherNet in chaiNNer: the nodes, example chains, and the command that puts them into a chaiNNer.

    python -m chainner_nodes install PATH      # PATH: a chaiNNer checkout or the folder of the installed app
    python -m chainner_nodes run PATH 8000     # chaiNNer's backend with the nodes, nothing copied

`chainner_nodes.nodes` registers the nodes when it is imported, which only works inside of chaiNNer's backend.
"""
