"""Rows of xLAM in, conversations of one question and its calls out: `query`, `tools` and `answers`.

`tools` and `answers` are lists, or JSON text of them. The parameters of a tool are a flat map of Python types, which
`python_types` turns into JSON Schema and where it says what is required.
"""

from __future__ import annotations

from runner.data import strict_json
from runner.data.calling import conversation, nodes, python_types, tools
from runner.data.calling.conversation import Conversation, ReadCall
from runner.data.calling.nodes import At, Node
from runner.data.rows import Row


def read(row: Row) -> Conversation:
    """The conversation of a row, with what is wrong in it."""
    found = Conversation()
    query = row.values.get("query")
    if isinstance(query, str):
        found.add(conversation.said("user", query, At("query")))
    else:
        found.faults.append((f"`query` is {strict_json.kind(query)}, not text", None))
    found.add_tools(*tools.of_column(row.values.get("tools"), "tools", python_types.parameters))
    answers = nodes.of_column(row.values.get("answers"), "answers")
    if not isinstance(answers, Node):
        found.faults.append(answers)
        return found
    if not isinstance(answers.value, list):
        found.faults.append((f"`answers` is {strict_json.kind(answers.value)}, not a list of calls", None))
        return found
    calls: list[ReadCall] = []
    for node in answers.items():
        call = conversation.call(node)
        if isinstance(call, ReadCall):
            calls.append(call)
        else:
            found.faults += call
    if not answers.value:
        found.faults.append(("`answers` is empty, so there is nothing to learn", None))
    found.add(conversation.calling("", calls, At("answers")))
    return found
