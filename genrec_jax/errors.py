"""The one exception that the command line turns into a line of text."""


class UserError(Exception):
    """A mistake that its message names together with the remedy.

    `genrec_jax.main` prints it as `error: ...` and exits with status 2. Anything else that is
    raised is a defect of the program and keeps its traceback.
    """
