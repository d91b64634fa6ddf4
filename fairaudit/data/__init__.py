"""Every way in: faces and predictions become typed tables; nothing is dropped without a line that says so."""
