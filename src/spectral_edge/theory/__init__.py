"""The paper's mathematics as code: every equation as published, its corrected form, and simulations that judge both."""
