# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests for tests and the demo. Other programs import tools/guest.py."""
