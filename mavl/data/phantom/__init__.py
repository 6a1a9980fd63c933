"""Phantoms: synthetic chest X-rays drawn from a seed, with findings, masks and reports. Not patients.

A phantom stands in for data that may not be passed on: the demo and the tests run on them. `draw` makes one study;
the drawing goes

    body (proportions) -> findings reshape it -> scene (attenuation) -> findings paint into it -> film (grey)

and beside it the report, with its RadGraph graph and the label matrix that the graph amounts to.
"""

from mavl.data.phantom.dataset import contact_sheet, write_dataset
from mavl.data.phantom.study import FINDINGS, Phantom, draw, truth

__all__ = ["FINDINGS", "Phantom", "contact_sheet", "draw", "truth", "write_dataset"]
