"""Building blocks of the sources: arguments, generated images, DICOM, NIfTI and HDF5 volumes, pairing, registration."""
