"""A search by a pymoo script of one's own: any algorithm, our problem and operators; see docs/session.md."""

from __future__ import annotations

import sys

from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.optimize import minimize

from nas_llm import Session

directory = sys.argv[1] if len(sys.argv) > 1 else "runs/own-pymoo"
with Session("tiny-llama", directory=directory) as session:
    algorithm = SMSEMOA(pop_size=20, **session.operators())
    result = minimize(session.problem(), algorithm, ("n_eval", 100), seed=1, callback=session.callback())
    print(f"{len(session.evaluations)} evaluations; the best perplexity is {result.F[:, 0].min():.2f}")
    front = session.front()
for point in front.points:
    print(f"{point.id}: ratio {point.cost.inheriting_ratio:.3f}, held-out perplexity {point.held_out_perplexity:.2f}")
