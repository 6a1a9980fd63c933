"""Image files: reading, transforms, augmentation."""
