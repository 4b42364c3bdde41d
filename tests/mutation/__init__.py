"""Are the tests of `supervisors/` good enough? Each small change of its code must make one of them fail."""
