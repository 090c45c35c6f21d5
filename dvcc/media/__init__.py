"""Read and write containers: files, folders of images, cameras. Nothing else opens one."""
