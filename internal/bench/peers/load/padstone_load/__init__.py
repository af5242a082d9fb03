"""The load kit of `padstone bench peers`: it needs nothing but apache-beam, and runs on any job endpoint."""
