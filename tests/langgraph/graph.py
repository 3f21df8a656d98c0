"""The graph that the real server runs in tests: three nodes, no model, no network."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    text: str


def _step(state: State) -> State:
    return {"text": state["text"] + "."}


builder = StateGraph(State)
for name in ("first", "second", "third"):
    builder.add_node(name, _step)
builder.add_edge(START, "first")
builder.add_edge("first", "second")
builder.add_edge("second", "third")
builder.add_edge("third", END)
graph = builder.compile()
