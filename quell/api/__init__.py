"""What `import quell` offers; each module is imported when something of it is first used."""
