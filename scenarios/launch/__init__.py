"""From a deployment to the engines' own command lines, and back; the engines' recorded lists of flags."""
