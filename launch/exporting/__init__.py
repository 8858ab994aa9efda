"""Restorations as files for other programs: ONNX, torch.export, TorchScript, and packages of the BioImage Model Zoo."""
