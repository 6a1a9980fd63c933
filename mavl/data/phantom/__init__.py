"""Phantoms: synthetic chest X-rays drawn from a seed, with findings, masks and reports. They show no patient.

The demo and the tests use phantoms in place of data that may not be passed on. `draw` makes one study, in these steps:

    body (proportions) -> reshaped by findings -> scene (attenuation) -> painted by findings -> film (grey)

It also makes the report, the report's RadGraph graph and the label matrix that follows from the graph.
"""

from mavl.data.phantom.dataset import contact_sheet, write_dataset
from mavl.data.phantom.study import FINDINGS, Phantom, draw, truth

__all__ = ["FINDINGS", "Phantom", "contact_sheet", "draw", "truth", "write_dataset"]
