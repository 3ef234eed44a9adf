"""The pooled model of any size: logistic curves from compressed trials, with intervals that respect groups."""
