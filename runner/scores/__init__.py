"""How good an answer is: pure functions of what was generated and what was wanted. Light: no torch, no numpy."""
