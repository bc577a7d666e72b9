"""Vector engines that hold a gallery beyond one process, behind one small interface."""
