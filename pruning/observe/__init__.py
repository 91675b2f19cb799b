"""Looking at a component while it works: the inputs that its layers meet, and the gradients of its loss.

What is put in place for that (hooks, gradients, evaluation mode) stands during a single call and is gone before the
progress of that call is told, so work that is abandoned leaves nothing behind. Statistics are kept by the content of
everything that they come from, so that other ratios, and other methods, look nothing up twice.
"""
