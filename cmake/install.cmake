# What `cmake --install` places beside the program and its plugins, and the target that takes all of it away again.

install(DIRECTORY core/include/digpt DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${DIGPT_OPS_H} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/digpt)
configure_file(cmake/digpt-sdk.pc.in ${CMAKE_BINARY_DIR}/digpt-sdk.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/digpt-sdk.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)

install(DIRECTORY recipes/ DESTINATION ${CMAKE_INSTALL_DATADIR}/digpt/recipes)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Shell completion, written by the program that was built. zsh reads bash's: see `digpt completion zsh`.
set(completions ${CMAKE_BINARY_DIR}/completions)
install(CODE "
  file(MAKE_DIRECTORY ${completions})
  foreach(shell bash fish)
    execute_process(COMMAND $<TARGET_FILE:digpt> completion \${shell} OUTPUT_FILE ${completions}/digpt.\${shell}
                    COMMAND_ERROR_IS_FATAL ANY)
  endforeach()")
install(FILES ${completions}/digpt.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME digpt)
install(FILES ${completions}/digpt.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

add_custom_target(uninstall COMMAND ${CMAKE_COMMAND} -P ${CMAKE_SOURCE_DIR}/cmake/uninstall.cmake
                  WORKING_DIRECTORY ${CMAKE_BINARY_DIR} VERBATIM)
