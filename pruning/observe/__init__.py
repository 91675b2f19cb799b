"""Looking at a component while it works: the inputs that its layers meet, and the gradients of its loss.

Hooks, gradients and evaluation mode live for one call and are removed before its progress is reported, so work that is
abandoned leaves nothing behind. Statistics are cached by the content of everything that they come from, so that other
ratios and other methods need not look again.
"""
