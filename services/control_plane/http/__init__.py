"""HTTP concerns of every route: authentication, rate and body limits, conditional requests, problem bodies, headers."""
