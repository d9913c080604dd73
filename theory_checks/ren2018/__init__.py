"""Lookahead reweighting (ren2018): its meta-gradient, descent, rate and cost."""
