"""Parts that the sections of the Train tab share: context, guard, HTML, plots and downloads."""
