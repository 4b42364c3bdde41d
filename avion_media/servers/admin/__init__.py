"""The admin port, which must not be public: its endpoints and its access control."""
