"""What is measured: groups of classes, accuracies, intervals, predictions, duplicates."""
