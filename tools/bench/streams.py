# SPDX-License-Identifier: MIT
"""Standard output and error, which may be full, closed, or a pipe that nobody reads any more. What cannot
be written is said once or not at all, and never changes what becomes of the measurement."""
import os
import sys


def put(stream, text):
    """'' or what went wrong. What fails is opened on nothing, or Python would try again when it exits, and
    end with a status of its own."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        return error.strerror
    return ""


def say(text):
    put(sys.stderr, f"besom bench: {text}\n")
