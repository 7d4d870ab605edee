"""Cannot be imported."""

import a_module_that_nobody_has


def fails_to_load(prompt, completion, example):
    return a_module_that_nobody_has.score(completion)
