"""Where pictures and masks enter: files, splits, transforms, mask generators and banks become batches."""
