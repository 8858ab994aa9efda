"""DICOM: headers of frames, pixels of files, and the series that they form. Needs pydicom."""
